"""Phrase tables of the demo data: Dutch wording per label and tone, which `wimbert_demo_data.py` turns into messages.

A table is a block of text. `[Name | kind]` opens a theme. `Label = cue | cue` lists the wording of one label, the most
frequent label of the theme first. `~` lists wording that all labels of the theme share. `+` is a sentence of detail.
Words in braces are filled in later.
"""

from dataclasses import dataclass, field


@dataclass
class Theme:
    """Related labels, each with its cues, and with shared cues and sentences of detail."""

    name: str
    kind: str
    cues: dict[str, tuple[str, ...]] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    details: tuple[str, ...] = ()


def parse_themes(table: str) -> tuple[Theme, ...]:
    """Read the themes of a table; the format is described at the top of this file."""
    themes: list[Theme] = []
    for line in table.strip().splitlines():
        if line.startswith("["):
            name, kind = line.strip("[]").split(" | ")
            themes.append(Theme(name, kind))
        elif line.startswith("~ "):
            themes[-1].shared += tuple(line[2:].split(" | "))
        elif line.startswith("+ "):
            themes[-1].details += (line[2:],)
        elif line:
            label, cues = line.split(" = ")
            themes[-1].cues[label] = tuple(cues.split(" | "))
    return tuple(themes)


def parse_rows(table: str) -> dict[str, tuple[str, ...]]:
    """Read lines of `name = phrase | phrase`; a name may have several lines."""
    rows: dict[str, tuple[str, ...]] = {}
    for line in table.strip().splitlines():
        name, phrases = line.split(" = ")
        rows[name] = rows.get(name, ()) + tuple(phrases.split(" | "))
    return rows


# Topics. The cues are noun phrases that fit after "over", "vanwege" and "met". Kind: in the street or at the desk.
ONDERWERP = parse_themes("""
[Afval | straat]
Grofvuil = het grofvuil dat niet is opgehaald | een oud bankstel bij het grofvuil | de afspraak voor grofvuil
Ondergrondse container = de volle ondergrondse container | de klep van de ondergrondse container | mijn defecte afvalpas
Zwerfafval = het zwerfafval in de berm | rondslingerend zwerfafval | zwerfafval naast de prullenbak
Gft-bak = de gft-bak die niet is geleegd | maden en stank in de gft-bak | het gft-afval dat bleef staan
Milieustraat = de toegang tot de milieustraat | de rij voor de milieustraat | puin dat de milieustraat weigerde
Pmd-afval = pmd-zakken aan de lantaarnpaal | het ophalen van het pmd | drinkpakken en pmd op de stoep
Oud papier = het oud papier dat bleef staan | nat karton naast het oud papier | de route van het oud papier
Glasbak = de overvolle glasbak | scherven rond de glasbak | het nachtelijke gerinkel bij de glasbak
~ het afval dat hier dagen blijft liggen | de afvalinzameling in onze wijk | een container die niet wordt geleegd
~ de vuilniswagen die onze straat overslaat
+ De vuilniswagen is op {day} gewoon doorgereden.
+ Er ligt inmiddels een berg vuilnis {where} en de meeuwen trekken alles open.
+ Het stinkt, zeker nu het warm is, en de buren klagen er ook over.
+ Volgens de afvalkalender was {date} de ophaaldag.
[Parkeren | straat]
Parkeervergunning = mijn parkeervergunning | de wachtlijst voor een parkeervergunning | de afgewezen bewonersvergunning
Foutparkeren = auto's die dubbel geparkeerd staan | foutparkeerders op de stoep | een foutgeparkeerde bestelbus
Parkeerboete = een onterechte parkeerboete | de parkeerboete van de scanauto | het bezwaar tegen mijn parkeerboete
Bezoekersparkeren = de app voor bezoekersparkeren | de uren voor bezoekersparkeren | het tegoed voor bezoekersparkeren
Parkeergarage = de slagboom van de parkeergarage | het tarief in de parkeergarage | de dichte parkeergarage
Gehandicaptenparkeerplaats = de gehandicaptenparkeerplaats voor onze deur | mijn gehandicaptenparkeerkaart
Laadpaal = de laadpaal die niet laadt | een extra laadpaal voor elektrische auto's | de storing aan de laadpaal
Deelscooters = deelscooters die overal neergekwakt worden | omgevallen deelscooters | deelscooters op straat
~ de parkeerplaatsen bij ons in de buurt | het parkeren in onze straat | de parkeerdruk in {hood} | de parkeerregels
+ Rond {time} is er {where} geen plek meer te vinden.
+ Er stonden op {day} wel {n} auto's waar dat niet mag.
+ Mijn kenteken staat gewoon goed in het systeem, dat heb ik nagekeken.
+ Ik rijd soms {big} minuten rondjes voordat ik de auto kwijt kan.
[Wegen en verlichting | straat]
Losse stoeptegel = losliggende stoeptegels | een scheve tegel op de stoep | opgedrukte stoeptegels
Gat in het wegdek = een diep gat in het asfalt | kuilen in het wegdek | het kapotte asfalt van de rijbaan
Straatverlichting = de kapotte straatverlichting | lantaarnpalen zonder licht | straatverlichting die knippert
Wegwerkzaamheden = de eindeloze wegwerkzaamheden | de omleiding bij wegwerkzaamheden | het stof van de wegwerkzaamheden
Fietspad = hobbels op het fietspad | het smalle fietspad | boomwortels die het fietspad opdrukken
Verkeerslicht = het verkeerslicht met te kort groen | het defecte verkeerslicht | het haperende verkeerslicht
Gladheidsbestrijding = gladheid op de weg | de gladheid zonder strooizout | gladheid en een trage strooiwagen
Brugbediening = de brug die steeds openstaat | de storing aan de brug | de bediening van de brug
~ de slechte staat van de straat | het onderhoud van de weg | de stoep en de weg voor ons huis
+ Mijn buurvrouw is er {day} al gevallen met haar fiets.
+ Het gaat om het stuk {where}, ter hoogte van huisnummer {big}.
+ Er staat een hekje met een lint, maar verder gebeurt er niets.
+ Bij regen blijft er een grote plas staan, zodat niemand ziet waar hij loopt.
[Groen en water | straat]
Boomonderhoud = overhangende takken van een boom | de zieke boom voor ons huis | het snoeien van de bomen
Onkruid = het onkruid tussen de tegels | kniehoog onkruid | brandnetels en distels langs de stoep
Hondenpoep = hondenpoep op het grasveld | baasjes die hondenpoep laten liggen | de hondenpoep op de stoep
Verstopt riool = het verstopte riool | een riool dat overloopt | water dat uit het riool omhoogkomt
Speelplaats = de kapotte schommel in de speeltuin | de glijbaan in de speeltuin | onveilige toestellen in de speeltuin
Eikenprocessierups = de eikenprocessierups | nesten van de eikenprocessierups | jeuk door de eikenprocessierups
Sloot en oever = de dichtgegroeide sloot | dode vissen in de sloot | de oever van de sloot
Volkstuin = de wachtlijst voor een volkstuin | het volkstuincomplex | de pacht van mijn volkstuin
~ het onderhoud van het groen | het verwaarloosde plantsoen | het park dat er slecht bij ligt
+ De hovenier is hier voor het laatst geweest op {date}.
+ De kinderen kunnen er zo niet meer spelen.
+ Bij het bankje {where} is het het ergst.
+ Vroeger werd dit {n} keer per jaar bijgehouden.
[Overlast | straat]
Geluidsoverlast = harde muziek van de buren | geluidsoverlast in de nacht | bonkende bassen en geschreeuw
Jongerenoverlast = hangjongeren bij het portiek | groepen jongeren die overlast geven | intimiderende hangjeugd
Drugsoverlast = drugsdealers in de straat | lachgasflessen en drugs in het portiek | de handel in drugs
Horecaoverlast = het terras van het café | dronken bezoekers van het café | het lawaai van het café na sluitingstijd
Ratten = ratten in de tuin | een rattenplaag | ratten en muizen rond de flat
Vuurwerk = knallend vuurwerk | zwaar illegaal vuurwerk | jongens die vuurwerkbommen gooien
Graffiti = graffiti op de gevel | een muur vol graffiti | de graffiti in het tunneltje
Cameratoezicht = het ontbreken van cameratoezicht | het cameratoezicht | het cameratoezicht dat op ons huis is gericht
~ de overlast in onze straat | de situatie 's avonds op het plein | de voortdurende herrie
+ Meestal begint het rond {time} en houdt het urenlang aan.
+ De wijkagent kent het probleem en verwijst naar de gemeente.
+ Ik heb er filmpjes van, gemaakt op {date}.
+ Wij hebben {n} keer geprobeerd er zelf iets van te zeggen.
[Verkeer | straat]
Te hard rijden = automobilisten die veel te hard rijden | racende auto's in een zone 30 | scheurende motoren
Fietsenstalling = de volle fietsenstalling | de bewaakte fietsenstalling | rommel in de fietsenstalling
Fietswrak = fietswrakken tegen de gevel | een fietswrak zonder wielen | mijn fiets die als fietswrak is weggehaald
Bushalte = de bushalte die is opgeheven | het kapotte hokje bij de bushalte | de verplaatste bushalte
Sluipverkeer = sluipverkeer door de woonwijk | sluipverkeer van vrachtwagens | sluipverkeer in de spits
Zebrapad = een ontbrekend zebrapad | het versleten zebrapad | automobilisten die niet stoppen voor het zebrapad
Eenrichtingsverkeer = het nieuwe eenrichtingsverkeer | spookrijders in het eenrichtingsverkeer
Milieuzone = de milieuzone voor diesels | mijn dieselbus en de milieuzone | een ontheffing voor de milieuzone
~ het verkeer in onze straat | de gevaarlijke verkeerssituatie | de drukte op de weg bij de school
+ Rond {time} is het er spitsuur.
+ Er zijn hier dit jaar al {n} ongelukken gebeurd.
+ De kinderen moeten hier elke ochtend oversteken naar school.
+ Een drempel of een bord {where} zou al veel schelen.
[Burgerzaken | loket]
Paspoort = mijn nieuwe paspoort | de aanvraag van een paspoort | een pasfoto die voor het paspoort werd geweigerd
Rijbewijs = het verlengen van mijn rijbewijs | mijn verlopen rijbewijs | het rijbewijs dat niet klaarlag
Verhuizing = de verhuizing die ik heb doorgegeven | de verhuizing naar een nieuw adres | het melden van mijn verhuizing
Identiteitskaart = mijn identiteitskaart | de identiteitskaart van mijn dochter | een gestolen identiteitskaart
Uittreksel = een uittreksel uit de basisregistratie | het bestelde uittreksel | een uittreksel met een tikfout
Geboorteaangifte = de geboorteaangifte van onze baby | een fout in de geboorteaangifte
Huwelijk = ons huwelijk in het stadhuis | de datum van ons huwelijk | de ambtenaar voor ons huwelijk
Naturalisatie = mijn naturalisatie | de ceremonie na mijn naturalisatie | het verzoek om naturalisatie
~ de documenten die ik heb aangevraagd | mijn gegevens in het systeem | de balie van Burgerzaken
+ Ik was op {date} om {time} aan het loket, met alle papieren bij me.
+ Ik moest een nummertje trekken en er waren {big} wachtenden voor mij.
+ Over {n} weken vertrek ik naar het buitenland, dus er is haast bij.
+ De kosten heb ik al met de pin betaald.
[Werk en inkomen | loket]
Bijstandsuitkering = mijn bijstandsuitkering | de aanvraag voor een bijstandsuitkering | het einde van de bijstand
Energietoeslag = de energietoeslag | de energietoeslag van dit jaar | de afgewezen energietoeslag
Schuldhulpverlening = de schuldhulpverlening | mijn traject bij de schuldhulpverlening | mijn schulden en de schuldhulp
Bijzondere bijstand = de bijzondere bijstand voor een wasmachine | bijzondere bijstand voor bewindvoering
Stadspas = de Stadspas voor minima | mijn geblokkeerde Stadspas | het tegoed op de Stadspas
Re-integratie = het traject voor mijn re-integratie | mijn werkcoach voor re-integratie | de test bij mijn re-integratie
Terugvordering = de terugvordering van {big}00 euro | een onverwachte terugvordering | bezwaar tegen een terugvordering
Individuele inkomenstoeslag = de individuele inkomenstoeslag | de jaarlijkse inkomenstoeslag
~ het geld dat ik zou krijgen | mijn aanvraag bij Werk en Inkomen | de steun voor mensen met weinig geld
+ Ik heb alle bankafschriften van {n} maanden ingeleverd.
+ De huur moet voor het eind van de maand betaald worden.
+ Mijn contactpersoon is sinds {date} al {n} keer gewisseld.
+ Zonder dat bedrag kan ik de boodschappen niet betalen.
[Zorg en ondersteuning | loket]
Huishoudelijke hulp = de huishoudelijke hulp | mijn hulp die niet komt poetsen | minder uren huishoudelijke hulp
Wmo-vervoer = de te late taxi van het Wmo-vervoer | het Wmo-vervoer | mijn pas voor het Wmo-vervoer
Jeugdhulp = de jeugdhulp voor mijn zoon | de wachtlijst in de jeugdhulp | de toegang tot jeugdhulp
Woningaanpassing = een traplift als woningaanpassing | de woningaanpassing van mijn badkamer | de woningaanpassing
Scootmobiel = mijn kapotte scootmobiel | de reparatie van de scootmobiel | de accu van mijn scootmobiel
Dagbesteding = de dagbesteding van mijn vader | de dagbesteding voor dementerenden | de indicatie voor dagbesteding
Persoonsgebonden budget = mijn persoonsgebonden budget | het persoonsgebonden budget voor mijn zorgverlener
Mantelzorg = mijn mantelzorg voor mijn ouders | de waardering voor mantelzorg | respijtzorg naast de mantelzorg
~ de zorg die wij nodig hebben | mijn indicatie | het keukentafelgesprek met de gemeente
+ Mijn huisarts heeft er op {date} een brief over geschreven.
+ Mijn moeder is op {date} geopereerd en kan weinig zelf.
+ Er is {n} keer iemand langs geweest om de situatie te bekijken.
+ Door mijn beperking kan ik niet zomaar naar het stadhuis komen.
[Belastingen | loket]
WOZ-waarde = de WOZ-waarde van mijn huis | mijn bezwaar tegen de WOZ | de taxatie voor de WOZ
Afvalstoffenheffing = de afvalstoffenheffing | de hoge afvalstoffenheffing | mijn afvalstoffenheffing
Kwijtschelding = de kwijtschelding van mijn belasting | een afgewezen kwijtschelding | het formulier voor kwijtschelding
Hondenbelasting = de hondenbelasting | hondenbelasting voor mijn overleden hond | de hoge hondenbelasting
Betalingsregeling = een betalingsregeling in termijnen | de betalingsregeling die is afgewezen
Rioolheffing = de rioolheffing | een dubbele aanslag rioolheffing | de rioolheffing voor huurders
Toeristenbelasting = de toeristenbelasting voor ons pension | de aangifte toeristenbelasting
Precariobelasting = de precariobelasting | de precariobelasting op mijn uithangbord | precariobelasting voor mijn luifel
~ de gemeentelijke belastingen | de aanslag die ik heb gekregen | de hoogte van het bedrag op het biljet
+ De aanslag is gedateerd op {date} en kwam pas weken later binnen.
+ Het bedrag is {big} procent hoger dan vorig jaar.
+ Nu krijg ik ook nog een aanmaning met {big} euro kosten.
+ Mijn buren met precies hetzelfde huis betalen veel minder.
[Bouwen en wonen | straat]
Omgevingsvergunning = mijn omgevingsvergunning | de omgevingsvergunning voor een aanbouw | het bouwplan van de buren
Woonurgentie = mijn aanvraag voor urgentie | de urgentie na mijn scheiding | de afgewezen urgentie
Bouwoverlast = heien op de bouwplaats | trillingen van de bouwplaats | bouwlawaai van de bouwplaats
Woningsplitsing = de woningsplitsing naast ons | een illegale woningsplitsing | kamerverhuur na een woningsplitsing
Vakantieverhuur = toeristen en vakantieverhuur | illegale vakantieverhuur | rolkoffers door de vakantieverhuur
Bestemmingsplan = het gewijzigde bestemmingsplan | inzage in het bestemmingsplan | een torenflat in het bestemmingsplan
Dakkapel = een dakkapel aan de voorkant | de welstandseisen voor mijn dakkapel
Monument = de regels voor ons monument | het schilderen van een monument | de subsidie voor ons monument
~ de plannen voor het pand hiernaast | de verbouwing in onze straat | de woonsituatie in ons blok
+ De tekeningen hangen sinds {date} achter het raam.
+ De eigenaar woont er niet en reageert nergens op.
+ Volgens de regels mag er pas vanaf 7.00 uur gewerkt worden.
+ Wij wonen hier al {years} jaar met veel plezier.
[Voorzieningen | loket]
Gemeentelijke website = de website van de gemeente | de zoekfunctie op de website | een haperend formulier op de website
Leerlingenvervoer = het leerlingenvervoer | het busje van het leerlingenvervoer | de chauffeur van het leerlingenvervoer
Zwembad = het zwembad dat dicht is | de zwemlessen in het zwembad | het koude water in het zwembad
Evenement = het evenement in het park | afsluitingen door het evenement | het podium van het evenement
Sportaccommodatie = de sporthal | de vloer van de sporthal | de kleedkamers van de sporthal
Weekmarkt = de weekmarkt | mijn standplaats op de weekmarkt | de kramen op de weekmarkt
Bibliotheek = de bibliotheek | boetes van de bibliotheek | het filiaal van de bibliotheek
Begraafplaats = het graf van mijn ouders op de begraafplaats | de begraafplaats | de grafrechten op de begraafplaats
~ de voorzieningen in {hood} | de openingstijden | de activiteiten die de gemeente aanbiedt
+ Het programma is sinds {date} zonder uitleg veranderd.
+ Vooral gezinnen en ouderen uit {hood} hebben er last van.
+ Op {day} stonden we om {time} voor niets te wachten.
+ Vroeger was dit juist zo goed geregeld.
""")

# Experience. The cues are main clauses.
BELEVING = parse_themes("""
[Tijd en contact | overal]
Lange wachttijd = ik wacht nu al {n} weken | de wachttijd is absurd lang | het duurt maanden voordat er iets gebeurt
Geen reactie op melding = op mijn eerdere melding kwam nooit antwoord | mijn mails blijven onbeantwoord
Slechte bereikbaarheid = ik hing {big} minuten in de wacht | de lijn is altijd bezet | ik krijg alleen een bandje
Afspraak niet nagekomen = er was een afspraak gemaakt, maar er kwam niemand opdagen | de afspraak is niet nagekomen
Van het kastje naar de muur = ik word van het kastje naar de muur gestuurd | elke afdeling verwijst mij door
~ er is al weken niets meer vernomen | ik krijg maar geen contact met de juiste persoon
~ ik heb al {n} keer gebeld zonder resultaat | er zou iemand terugbellen, en dat is niet gebeurd
[Informatie | overal]
Onduidelijke informatie = de uitleg in de brief was vaag | het is volstrekt onduidelijk wat de bedoeling is
Ingewikkelde procedure = de procedure is nodeloos ingewikkeld | er moeten {n} formulieren voor worden ingevuld
Tegenstrijdige informatie = de ene medewerker zegt ja en de andere nee | de berichten spreken elkaar tegen
Digitale drempel = alles moet met DigiD en dat lukt mij niet | het kan alleen online en ik heb geen computer
Onbegrijpelijke taal = de brief staat vol ambtelijke taal | ik begrijp de moeilijke woorden niet
~ ik weet niet waar ik aan toe ben | niemand kan mij vertellen hoe het nu verder moet | de informatie klopt niet
[Bejegening | overal]
Niet serieus genomen = ik voel mij niet serieus genomen | mijn klacht werd weggewuifd | er werd om mijn verhaal gelachen
Onvriendelijke bejegening = de medewerker was bot en onbeschoft | ik werd afgesnauwd | de toon was ronduit onvriendelijk
Geen inspraak = wij mochten nergens over meepraten | bewoners zijn vooraf niet geraadpleegd | inspraak was er niet
Ongelijke behandeling = anderen kregen het wel en ik niet | er wordt met twee maten gemeten | anderen krijgen voorrang
Tevreden over medewerker = de medewerker heeft mij prima geholpen | ik ben heel vriendelijk te woord gestaan
Gediscrimineerd voelen = ik voel mij gediscrimineerd | mijn afkomst speelde volgens mij mee | mijn accent werd nagedaan
~ er wordt niet geluisterd | zo ga je niet met inwoners om | ik voelde mij weggezet als een lastige klant
[Aanpak | overal]
Gebrekkige handhaving = er wordt nooit gecontroleerd | de boa's treden niet op | zonder boetes verandert hier niets
Fout niet hersteld = de fout is nog steeds niet hersteld | de reparatie ging meteen stuk | de vergissing bleef staan
Hoge kosten = dit kost mij handenvol geld | het is voor mij onbetaalbaar | {big} euro is veel te duur
Geen maatwerk = met mijn persoonlijke situatie wordt geen rekening gehouden | men past star de regeltjes toe
Schade geleden = mijn auto heeft er schade door | ik wil de schade vergoed krijgen | mijn spullen zijn beschadigd
~ er is nog steeds niets opgelost | de gemeente doet er helemaal niets aan | dit probleem komt telkens terug
[Gevoel | overal]
Onveilig gevoel = ik durf in het donker niet meer naar buiten | het voelt onveilig | de kinderen zijn bang
Stress en slapeloosheid = ik slaap er slecht van | de stress sloopt mij | ik lig er nachten van wakker
Gebrek aan vertrouwen = ik heb geen vertrouwen meer in de gemeente | ik geloof die beloftes niet meer
Slechte toegankelijkheid = met mijn rollator kom ik er niet langs | een rolstoel kan er niet door
Privacy geschonden = mijn privégegevens lagen op straat | mijn privacy is geschonden | een vreemde kreeg mijn dossier
~ ik houd dit zo niet lang meer vol | het raakt mij en mijn gezin echt | ik ben hier de dupe van
""")

# Kind of message that a label requires: trouble in the street, or contact with a desk.
ALLEEN_STRAAT = frozenset({"Gebrekkige handhaving", "Onveilig gevoel", "Schade geleden"})
ALLEEN_LOKET = frozenset({"Onbegrijpelijke taal", "Privacy geschonden", "Digitale drempel"})

# The most frequent emotion of an experience.
EMOTION_OF = parse_rows("""
frustrated = Lange wachttijd | Geen reactie op melding | Slechte bereikbaarheid | Fout niet hersteld | Hoge kosten
angry = Niet serieus genomen | Onvriendelijke bejegening | Ongelijke behandeling | Gebrekkige handhaving
angry = Gediscrimineerd voelen
anxious = Onveilig gevoel | Stress en slapeloosheid | Privacy geschonden
confused = Onduidelijke informatie | Tegenstrijdige informatie | Onbegrijpelijke taal | Ingewikkelde procedure
friendly = Tevreden over medewerker
""")

# The complaint itself, per communication style; {t} is a topic's cue. All styles may use "any", further topics "more".
TOPIC_FRAMES = parse_rows("""
any = Ik heb een klacht over {t}. | Mijn klacht gaat over {t}. | Ik neem contact op over {t}.
any = Ik wil iets kwijt over {t}.
formal = Hierbij dien ik een klacht in over {t}. | Middels dit bericht verzoek ik u te kijken naar {t}.
formal = Gaarne vraag ik uw aandacht voor {t}. | Naar aanleiding van {t} wend ik mij tot u.
informal = Ik wil het even met jullie hebben over {t}. | Weten jullie wat er aan de hand is met {t}?
informal = Wij hebben hier dus gedoe met {t}. | Kunnen jullie iets doen aan {t}?
direct = Klacht: {t}. | Probleem met {t}. | Doe nu iets aan {t}. | Kort en duidelijk: het gaat om {t}.
verbose = Normaal trek ik niet zo snel aan de bel, maar ditmaal moet ik toch echt mijn verhaal kwijt over {t}.
verbose = Laat ik bij het begin beginnen, want er valt nogal wat te vertellen over {t}.
verbose = Ik zal proberen om het zo volledig mogelijk uit te leggen, en in de kern gaat het om {t}.
more = Daarnaast gaat het om {t}. | Ook over {t} heb ik een klacht. | Verder is er gedoe met {t}.
more = En dan is er nog een probleem met {t}. | Dan nog iets over {t}. | Tegelijk vraag ik aandacht voor {t}.
solved = Over {t} heb ik geen klachten meer, dat is netjes opgelost. | Met {t} heeft dit overigens niets te maken.
solved = Vorig jaar ging het nog over {t}, maar dat is verleden tijd.
""")

# Around an experience; {b} and {B} are its cue, without and with a capital.
BELEVING_FRAMES = parse_rows("""
any = {B}. | {B}. | {B}. | Daar komt bij: {b}. | Wat mij vooral steekt: {b}. | Eerlijk gezegd: {b}. | En {b}.
any = {B}, en dat is heel vervelend. | Het vervelendste is: {b}. | Het komt hierop neer: {b}. | Kortom: {b}.
Tevreden over medewerker = Iets positiefs mag ook gezegd worden: {b}. | {B}, dank daarvoor. | Wel is het zo: {b}.
""")

# Expressions of the emotion, as a sentence in the middle and as a final wish.
EMOTIONS = parse_rows("""
neutral = Ik geef dit ter informatie door. | Dit is een feitelijke melding. | Het verzoek is dit te behandelen.
neutral = Ik verneem graag wat de vervolgstappen zijn. | Dit ter registratie.
frustrated = Ik word er moedeloos van. | Ik heb er genoeg van. | Het is om gek van te worden. | Wat een frustratie.
frustrated = Dit is zó vermoeiend. | Hoe vaak moet ik dit nog melden? | Zucht, altijd hetzelfde liedje.
angry = Ik ben woedend! | Dit is een regelrechte schande! | Ik ben hier echt pisnijdig over. | Belachelijk gewoon!
angry = Ik pik dit niet langer! | Schandalig, waar betaal ik belasting voor? | Wat een wanprestatie!
anxious = Ik maak mij grote zorgen. | Ik ben bang dat het uit de hand loopt. | Mijn hart klopt in mijn keel.
anxious = Ik ben er heel ongerust over. | Straks gebeurt er iets ergs. | Ik word er angstig van.
confused = Ik snap er niets meer van. | Wat moet ik nu precies doen? | Ik raak het spoor bijster. | Heb ik iets gemist?
confused = Ik ben helemaal in de war. | Klopt dit wel, of vergis ik me?
friendly = Ik weet dat er hard gewerkt wordt, hoor. | Alvast heel erg bedankt voor de moeite! | Fijn dat dit kan.
friendly = Ik waardeer alles wat er gedaan wordt. | Geen kwaad woord over de gemeente. | Heel lief als iemand meekijkt.
""")
EMOTION_CLOSINGS = parse_rows("""
neutral = Graag een bericht over de afhandeling. | Ik wacht de reactie af.
frustrated = Doe hier nu eindelijk eens iets aan. | Hopelijk wordt het deze keer wel opgepakt.
angry = Ik eis een oplossing! | Anders stap ik naar de ombudsman!
anxious = Laat alstublieft snel iets weten, ik ben er niet gerust op. | Alstublieft, kom snel kijken.
confused = Kan iemand het mij nog één keer uitleggen? | Ik hoor graag hoe het nu zit.
friendly = Een hele fijne dag gewenst! | Dank voor het meedenken en succes met het werk!
""")

# The first and the last words, per channel; "casual" is for informal and direct writers, "any" for every channel.
GREETINGS = parse_rows("""
any = Goedendag. | {greet}. | Hallo. | Beste gemeente.
phone = {greet}, u spreekt met een inwoner van {hood}. | {greet}, ik bel u met een klacht.
phone = {greet}, fijn dat ik iemand aan de lijn heb.
phone casual = Ja hallo, ik bel even. | Hoi, spreek ik met de gemeente? | Eh, hallo, ben ik zo goed doorverbonden?
email = Geachte heer, mevrouw, | Geachte heer/mevrouw, | L.S., | Geacht college, | Geachte klachtencommissie,
email casual = Beste mensen van de gemeente, | Dag allemaal, | Onderwerp van deze mail: klacht.
whatsapp = Goedendag, ik app u met een klacht. | Dag, via deze app een melding.
whatsapp casual = Hoi gemeente 👋 | Heee, ff een appje. | Hoi hoi, vraagje! | Yo, is dit het appnummer van de gemeente?
webform = Omschrijving van de melding: | Ingevuld via het formulier op de site. | Toelichting bij mijn melding:
webform = Locatie: {place}.
webform casual = Soort melding: klacht. | Locatie: {place}. | Wat is er aan de hand:
""")
CLOSINGS = parse_rows("""
any = Bedankt. | Groet. | Ik hoor graag iets. | Een inwoner van {hood}.
phone = Kunt u dit noteren en mij terugbellen? | Mijn nummer staat in uw scherm, dank u wel. Dag.
phone casual = Nou ja, dat was het, bel me maar terug. | Oké, eh, dan hang ik nu op. Doei.
email = Hoogachtend, een inwoner van {hood}. | Met vriendelijke groet, een bewoner uit {hood}. | Met beleefde groet.
email casual = Groetjes uit {hood}. | Ik zie het antwoord wel in mijn mailbox. Groeten!
whatsapp = Graag een antwoord via de app. | Een foto kan ik u appen.
whatsapp casual = Foto volgt 📷 | Thx! | Appen jullie even terug? | 🙏🙏
webform = Bijlage: {n} foto's. | Contact: liefst per e-mail. | Ik ga akkoord met de voorwaarden.
webform casual = Bijlage: foto. | Terugkoppeling gewenst: ja. | Verzonden om {time}.
""")

# Details that fit any complaint; verbose writers use most of them.
DETAILS = parse_rows("""
any = Het speelt al sinds {date}. | Vorige week, op {day} om precies te zijn, sprak ik er nog met een buurman over.
any = Het gaat om de situatie {where}. | Om een lang verhaal iets korter te maken: zo kan het volgens mij niet blijven.
any = Op {day} rond {time} was het weer zover. | Het kenmerk van mijn dossier heb ik bij de hand, mocht dat nodig zijn.
any = Ik heb er op {date} foto's van gemaakt. | Op {date} heb ik hierover een brief ontvangen, die ik goed heb bewaard.
any = Ik woon zelf in {hood}, vlak bij {place}. | Ook {street} en in de straten daaromheen hoor ik dezelfde verhalen.
any = Mijn partner heeft het op {day} met eigen ogen gezien. | Voor zover ik weet is er op {date} iemand langs geweest.
any = In de buurtapp wordt er al {n} weken over gepraat. | Als je {street} de hoek omgaat, zie je meteen wat ik bedoel.
any = Ik heb alles opgeschreven in een schriftje, met datum en tijdstip erbij.
any = Wij zijn met {n} mensen thuis en we merken er allemaal iets van.
any = Een kennis die {street} woont, had vorig jaar precies hetzelfde.
any = Ik ben er op {date} speciaal voor vrij gebleven van mijn werk.
any = Tussen {date} en nu is er eigenlijk niets veranderd. | Ik heb er {n} keer met de mensen {where} over gesproken.
any = Ik ben iedere ochtend rond {time} in de buurt van {place}, dus ik zie het goed.
any = Ik heb er de krant van {date} nog eens op nageslagen, en daar stond het anders.
any = Het was een gewone {day}, het weer was rustig en ik had geen haast.
any = In een andere gemeente, waar mijn zus woont, is dit binnen {n} dagen geregeld.
any = Daarna ben ik naar huis gelopen en heb ik dit bericht opgesteld.
any = Toen ik hier {years} jaar geleden kwam wonen, ging dat allemaal anders.
""")["any"]

# Events: frequency per hundred messages, whether it was a calamity, and its wording in a message.
EVENTS = (
    ("dagelijks leven", 74, False, ""),
    ("evenement", 6, False, "Dat was ook zo tijdens het evenement bij {place} op {date}."),
    ("wegafsluiting", 6, False, "Door de wegafsluiting {where} werd het nog lastiger."),
    ("vakantieperiode", 5, False, "Nu is het vakantieperiode, dat snap ik ook wel."),
    ("storm", 4, True, "Sinds de storm van {date} is het alleen maar erger."),
    ("wateroverlast", 3, True, "Na de wolkbreuk van {date} stond {where} alles blank."),
    ("stroomstoring", 1, True, "Tijdens de stroomstoring van {date} was niemand aanspreekbaar."),
    ("brand", 1, True, "Na de grote brand {where} op {date} is alles vertraagd."),
)

# Made-up neighborhoods, each with two places: the name and, after the slash, the word for "there".
PLACES = parse_rows("""
Lindenhof = het Lindeplein / op het Lindeplein | de Kastanjelaan / op de Kastanjelaan
Oosterhaven = de Havenkade / aan de Havenkade | het stadhuis / bij het stadhuis
Molenveld = de Molenstraat / in de Molenstraat | de Korenmolen / bij de Korenmolen
Zonnewoude = het winkelcentrum / bij het winkelcentrum | de Zonnelaan / op de Zonnelaan
Waterlinde = de Vijverweg / aan de Vijverweg | het zwanenmeertje / bij het zwanenmeertje
Berkenrode = de Berkenstraat / in de Berkenstraat | station Berkenrode / bij station Berkenrode
Heideveld = de Heidelaan / op de Heidelaan | de basisschool / bij de basisschool
Vogelhorst = de Merelstraat / in de Merelstraat | het Reigerplantsoen / in het Reigerplantsoen
Sterrenkamp = de Poolsterweg / aan de Poolsterweg | het busplein / op het busplein
Eikenrode = het Eikenpark / in het Eikenpark | de Dennenstraat / in de Dennenstraat
Wilgenoord = de Wilgendijk / op de Wilgendijk | de sluis / bij de sluis
Rozenwerf = de Rozengracht / aan de Rozengracht | het Marktplein / op het Marktplein
""")

# Spelling of hurried writers.
SLANG = {"even": "ff", "niet": "nie", "gewoon": "gwn", "omdat": "omdt", "bedankt": "bdnkt", "verder": "vrdr"}

# The reasoning of the second annotation.
REASONING = (
    "De melder schrijft over {onderwerp} en de ervaring past het best bij {beleving}.",
    "De {emotion} tekst wijst op {onderwerp}, met als beleving {beleving}.",
    "Omdat het bericht gaat over {onderwerp}, met een {emotion} toon, is {beleving} als beleving gekozen.",
    "Gekozen is voor {onderwerp}; uit de formulering blijkt {beleving}.",
)
EMOTION_WORDS = dict(
    zip(EMOTIONS, ("neutrale", "gefrustreerde", "boze", "ongeruste", "verwarde", "vriendelijke"), strict=True)
)
